"""Runtime: the only package that imports Ray and DeepSpeed; everything below it runs without them."""
