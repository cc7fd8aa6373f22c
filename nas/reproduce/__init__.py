"""``nas reproduce``: one trial evaluated again from scratch, and how far what comes of it agrees."""
