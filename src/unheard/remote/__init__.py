"""Files at addresses such as ``s3://bucket/a.wav``, through fsspec: reading, a cache of bounded size, writing."""
