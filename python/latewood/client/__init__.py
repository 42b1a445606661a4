"""An index behind a service (docs/serving.md): what calls ask for, what answers say, and two ways of sending them."""
