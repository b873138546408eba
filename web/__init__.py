"""How people ask: HTTP views, one module per service that has any."""
