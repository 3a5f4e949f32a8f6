"""The stages of the network, in data order: preprocess, cnn, encoder, decoder, losses, text."""
