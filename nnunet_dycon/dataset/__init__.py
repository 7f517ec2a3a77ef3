"""nnU-Net's folders on disk: raw datasets, splits, preprocessed and unlabelled scans."""
