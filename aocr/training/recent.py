"""The batches that batch norm statistics are estimated from."""

import collections


class RecentBatches:
    """The newest batches' prepared images, as many batches as hold a number of images."""

    def __init__(self, images):
        self._images = images
        self._batches = collections.deque()

    def add(self, images):
        """images: (pixels [N, H, W, C], widths [N])."""
        self._batches.append(images)
        while sum(len(widths) for _, widths in self._batches) - len(self._batches[0][1]) >= self._images:
            self._batches.popleft()

    @property
    def wanted(self):
        """The number of images that it holds, once so many were added."""
        return self._images

    def newest(self, images):
        """The newest batches that together hold at least so many images, or all."""
        chosen, count = [], 0
        for batch in reversed(self._batches):
            if count >= images:
                break
            chosen.append(batch)
            count += len(batch[1])
        return chosen
