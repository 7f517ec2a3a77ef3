"""From a dataset's download to a complete nnU-Net raw dataset: ``nnunet-dycon convert``.

Another dataset is one module in ``datasets/`` and its lists of cases in ``lists/``.
"""
