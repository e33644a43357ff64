"""Image and distribution metrics: pure functions on tensors, used by training and by the tables alike."""
