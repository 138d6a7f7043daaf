"""Language models: clients, structured answers, masking, grounding, prices."""
