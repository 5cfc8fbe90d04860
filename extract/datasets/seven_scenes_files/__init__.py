"""How a sequence of 7-Scenes is read: from a folder, or from the zip file that it comes in."""
