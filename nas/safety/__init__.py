"""Limits on what is read from outside, and the checks that hold files to them before they are loaded.

Whatever a person hands over (a recipe, a space, data, a model, a deployment, a study's folder) may come from someone
else, be damaged, or be made to do harm. Its size is looked at before it is read, what it claims to hold before that is
allocated, and a name in it never leads out of the folder that it was found in. Needs neither torch nor onnx, so that a
device that only measures has it too.
"""
