"""Rules that turn evidence into the next round's proposal, one file per rule."""
