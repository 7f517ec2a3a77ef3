"""``python -m nnunet_dycon.torchrun``."""

from nnunet_dycon.torchrun import main

if __name__ == "__main__":
    main()
