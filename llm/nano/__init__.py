"""The nano vision-language model: EfficientNet-Lite0, a projector and SmolLM2-135M-Instruct.

Importing a module of this package that defines the classes registers them; `register` does all at once.
"""


def register() -> None:
    """Make ``AutoConfig``, ``AutoModelForImageTextToText`` and ``AutoProcessor`` know the nano model."""
    from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor

    from .configuration import NanoVLMConfig
    from .modeling import NanoVLMForConditionalGeneration
    from .processing import NanoVLMImageProcessor, NanoVLMProcessor

    AutoConfig.register(NanoVLMConfig.model_type, NanoVLMConfig, exist_ok=True)
    AutoModelForImageTextToText.register(NanoVLMConfig, NanoVLMForConditionalGeneration, exist_ok=True)
    AutoImageProcessor.register(
        NanoVLMConfig, slow_image_processor_class=NanoVLMImageProcessor, exist_ok=True
    )
    AutoProcessor.register(NanoVLMConfig, NanoVLMProcessor, exist_ok=True)
