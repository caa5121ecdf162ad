"""Line searches and their first step."""
