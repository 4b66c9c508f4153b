"""What stands beside a learned number.

- `untrained.py`: a network of the same shape that learned nothing
- `pixels.py`: the images themselves
- `second_order.py`: the best linear predictor, which knows the covariance alone; `linear_fit.py`
  fits it on images
"""
