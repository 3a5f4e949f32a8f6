def draw_curves(history_path, output_path):
    raise ImportError
