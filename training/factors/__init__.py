"""Which factors of an avatar the directions of a local basis change: the study of docs/factors.md."""
