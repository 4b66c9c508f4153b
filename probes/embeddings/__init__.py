"""`lcmae.embed`: vectors of images with stable ids, and how alike two models' vectors are.

- `vectors.py`: model and images -> batches of vectors
- `embed.py`: these as a DataFrame, or streamed to a Parquet file
- `compare.py`: linear CKA and shared neighbours of two such tables
"""
