"""What is known of each sampler, one file a sampler."""
