"""Raw text to a data set: cleaned, without duplicates, a part held out."""
