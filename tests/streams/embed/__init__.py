"""Tests of the embed stage."""
