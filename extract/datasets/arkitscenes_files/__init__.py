"""What ARKitScenes' files hold: which videos there are, of which visit, and the frames and cameras of each."""
