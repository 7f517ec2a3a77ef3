"""What the command ``nnunet-dycon`` does, a folder a subcommand; nothing outside imports it but ``cli``."""
