"""Image–text pairs: sources, caption clean-up, augmentation."""
