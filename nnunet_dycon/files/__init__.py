"""Files written whole, JSON, processes and text; knows nothing of segmentation."""
