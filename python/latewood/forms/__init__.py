"""What callers have, in whatever form → plain checked values and flat arrays."""
