"""What a model that starts from nothing needs: base text, and episodes recast."""
