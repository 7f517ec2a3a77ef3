"""Parts of a training step that the trainers put together."""
