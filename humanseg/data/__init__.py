"""From photographs and masks on disk to batches: reading, checks, the cache, augmentation."""
