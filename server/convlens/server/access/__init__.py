"""Who may do what: TLS, tokens with their scopes and quotas, and what suits production."""
