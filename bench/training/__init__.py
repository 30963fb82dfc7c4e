"""What a method trains and how: the detector contract, the Avalanche adapter, backbones, precision."""
