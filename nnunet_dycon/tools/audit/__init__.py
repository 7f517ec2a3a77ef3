"""Is a dataset sound and free of leaks? ``nnunet-dycon audit``."""
