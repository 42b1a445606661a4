"""The index: a folder of compressed token vectors, its changes, and what a search or a rerank of it gives."""
