"""How `latewood/nano-en`, the encoder inside the wheel, is made: `python -m training.nano_en all`."""
