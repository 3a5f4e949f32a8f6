"""The stages of the network, in the order of the data: preprocess, cnn, encoder, decoder, losses, text."""
