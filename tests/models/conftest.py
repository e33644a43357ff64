"""Small pretrained encoders as their libraries save them."""

from small_encoders import clip_folder, dino_folder, xrv_file

__all__ = ["clip_folder", "dino_folder", "xrv_file"]
