"""Classifiers of images: how they are trained, kept and used."""
