"""The evaluator ``clip_lite_bias`` of ``mlflow.models.evaluate``."""
