"""First stages: what finds the candidates that are then reranked."""
