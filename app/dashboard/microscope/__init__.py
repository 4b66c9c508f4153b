"""The microscope's page in parts: `controls.py` asks, `maps.py` turns numbers into pictures,
`views.py` and `patch_details.py` show them, `pair.py` shows two models side by side."""
