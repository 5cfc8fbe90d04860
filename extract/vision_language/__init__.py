"""What vision-language models share: the chat around the frames, where their tokens are, and the loop."""
