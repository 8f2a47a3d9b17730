"""TAS for pictures and expressions of one's own."""
