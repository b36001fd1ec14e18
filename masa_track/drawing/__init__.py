"""Drawing: tracks on frames, and the colour of each identity."""
