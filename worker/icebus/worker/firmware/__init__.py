"""What boards run: our images, the banners that give a firmware away, and the protocols."""
