"""Pictures in one style, by matplotlib, which is imported when one is drawn and not before.

Each module has the plain records that its pictures show, and the functions that draw them.
"""
