"""Classifiers for small images, built from tables of layers.

All end in logits. Their weights are He-normal (He et al., Delving Deep into Rectifiers, 2015), but those of attention,
which are Keras's.
"""

import keras
from keras import layers

# (convolutions, channels) of each stage; a pooling ends each.
_VGG_STAGES = {
    "vgg11": ((1, 64), (1, 128), (2, 256), (2, 512), (2, 512)),
    "vgg13": ((2, 64), (2, 128), (2, 256), (2, 512), (2, 512)),
    "vgg16": ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)),
    "vgg19": ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512)),
}
# (blocks, channels) of each stage; each but the first starts with a stride of 2.
_RESNET_STAGES = {
    "resnet8": ((1, 16), (1, 32), (1, 64)),
    "resnet20": ((3, 16), (3, 32), (3, 64)),
    "resnet18": ((2, 64), (2, 128), (2, 256), (2, 512)),
}
_SMALLEST_SIDES = {
    "small_cnn": 4,
    "strided_cnn": 10,
    "lenet5": 12,
    **dict.fromkeys(_VGG_STAGES, 17),
    "resnet8": 3,
    "resnet20": 3,
    "resnet18": 5,
    "small_vit": 5,
}
NAMES = tuple(_SMALLEST_SIDES)
# The first has kinks, the others are smooth.
ACTIVATIONS = ("relu", "swish", "gelu", "softplus")


def build(
    name: str, input_shape: tuple[int, int, int], num_classes: int, width: float = 1.0, activation: str = "relu"
) -> keras.Model:
    """Builds a classifier.

    Args:
      name: one of `NAMES`.
      input_shape: `(height, width, channels)` of an image.
      num_classes: number of logits.
      width: multiplies the channels of every convolution and the units of every hidden dense layer; each
        keeps at least one.
      activation: of every hidden layer, one of `ACTIVATIONS`.

    Returns:
      A functional `keras.Model` named `name`, from images to logits `[batch, num_classes]`.

    Raises:
      ValueError: if the name is unknown, the input too small for every layer to see more than one pixel,
        `num_classes` less than 2, `width` not positive or the activation unknown.
    """
    _check_arguments(name, input_shape, num_classes, width, activation)

    def activate(x):
        return layers.Activation(activation)(x)

    def scale(channels):
        return max(1, round(width * channels))

    inputs = keras.Input(input_shape, name="images")
    if name in _VGG_STAGES:
        features = _vgg(inputs, _VGG_STAGES[name], scale, activate)
    elif name in _RESNET_STAGES:
        features = _resnet(inputs, _RESNET_STAGES[name], scale, activate)
    elif name == "strided_cnn":
        features = _strided_cnn(inputs, scale, activate)
    elif name == "lenet5":
        features = _lenet5(inputs, scale, activate)
    elif name == "small_vit":
        features = _small_vit(inputs, scale, activate)
    else:
        features = _small_cnn(inputs, scale, activate)
    return keras.Model(inputs, _dense(features, num_classes, name="logits"), name=name)


def _check_arguments(name, input_shape, num_classes, width, activation):
    if name not in NAMES:
        raise ValueError(f"Expected `name` to be one of {', '.join(NAMES)}. Received: name={name!r}")
    if len(input_shape) != 3:
        raise ValueError(f"Expected `input_shape` to be (height, width, channels). Received: input_shape={input_shape}")
    smallest = _SMALLEST_SIDES[name]
    if min(input_shape[:2]) < smallest:
        raise ValueError(
            f"Expected `input_shape` to be at least {smallest}x{smallest} pixels for {name!r}. "
            f"Received: input_shape={input_shape}"
        )
    if num_classes < 2:
        raise ValueError(f"Expected `num_classes` to be at least 2. Received: num_classes={num_classes}")
    if width <= 0:
        raise ValueError(f"Expected `width` to be positive. Received: width={width}")
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"Expected `activation` to be one of {', '.join(ACTIVATIONS)}. Received: activation={activation!r}"
        )


def _small_cnn(x, scale, activate):
    """A small network: Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, 2018.

    Deviation from their MNIST network: 256 hidden units for 1024.
    """
    for channels in (32, 64):
        x = activate(_convolution(x, scale(channels), 5))
        x = keras.layers.MaxPooling2D()(x)
    return activate(_dense(layers.Flatten()(x), scale(256)))


def _strided_cnn(x, scale, activate):
    """A network of few layers without pooling, whose bounds are tight, for certified training.

    It is the small network of Gowal et al., On the Effectiveness of Interval Bound Propagation, 2018. Deviation: a stride of 2
    in the second convolution, too.
    """
    for channels in (16, 32):
        x = activate(_convolution(x, scale(channels), 4, strides=2, padding="valid"))
    return activate(_dense(layers.Flatten()(x), scale(100)))


def _lenet5(x, scale, activate):
    """LeNet-5: LeCun et al., Gradient-Based Learning Applied to Document Recognition, 1998.

    Deviations: `activation` for scaled tanh, max pooling for trainable subsampling, a full table of connections in
    the second convolution, a dense layer for the radial basis functions. Images below 32x32 are zero-padded
    by 2, as the paper pads its digits from 28x28.
    """
    first_padding = "same" if min(x.shape[1:3]) < 32 else "valid"
    for channels, padding in ((6, first_padding), (16, "valid")):
        x = activate(_convolution(x, scale(channels), 5, padding=padding))
        x = keras.layers.MaxPooling2D()(x)
    x = layers.Flatten()(x)
    for units in (120, 84):
        x = activate(_dense(x, scale(units)))
    return x


def _vgg(x, stages, scale, activate):
    """VGG: Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, 2015.

    As is usual on CIFAR: BatchNormalization after each convolution, and one dense layer after the 512
    features. The poolings have "same" padding, so that 28x28 lasts for five of them; the last features are
    averaged over what is left, one pixel up to 32x32.
    """
    for convolutions, channels in stages:
        for _ in range(convolutions):
            x = activate(_normalize(_convolution(x, scale(channels), 3)))
        x = keras.layers.MaxPooling2D(padding="same")(x)
    return layers.GlobalAveragePooling2D()(x)


def _resnet(x, stages, scale, activate):
    """ResNet for CIFAR: He et al., Deep Residual Learning for Image Recognition, 2016.

    ResNet-8 and ResNet-20 have the paper's 6n+2 layers; ResNet-18 has the stages of its ImageNet network, and
    a 3x3 convolution without pooling for its stem. Deviation: where the shape changes, the shortcut is a 1x1
    convolution with BatchNormalization (the paper's option B) for zero-padding (its option A, used on CIFAR).
    """
    x = activate(_normalize(_convolution(x, scale(stages[0][1]), 3, use_bias=False)))
    for stage, (blocks, channels) in enumerate(stages):
        for block in range(blocks):
            x = _residual_block(x, scale(channels), 2 if stage > 0 and block == 0 else 1, activate)
    return layers.GlobalAveragePooling2D()(x)


def _residual_block(x, channels, strides, activate):
    shortcut = x
    if strides > 1:
        shortcut = _normalize(_convolution(x, channels, 1, strides=strides, use_bias=False))
    x = activate(_normalize(_convolution(x, channels, 3, strides=strides, use_bias=False)))
    x = _normalize(_convolution(x, channels, 3, use_bias=False))
    return activate(layers.add([x, shortcut]))


def _small_vit(x, scale, activate):
    """A small vision transformer: Dosovitskiy et al., An Image is Worth 16x16 Words, 2021; each is worth 4x4 pixels here.

    Deviations, for few images: two strided convolutions make the patches (Xiao et al., Early Convolutions Help Transformers
    See Better, 2021), a residual depthwise convolution says where they are (Chu et al., Conditional Positional Encodings
    for Vision Transformers, 2021), and the mean of all takes the place of a class token.
    """
    heads, channels = 4, 4 * scale(16)
    x = activate(_convolution(x, channels // 2, 3, strides=2))
    x = _convolution(x, channels, 3, strides=2)
    x = layers.add([x, layers.DepthwiseConv2D(3, padding="same")(x)])
    x = layers.Reshape((-1, channels))(x)
    for _ in range(4):
        x = _transformer_block(x, heads, activate)
    return layers.GlobalAveragePooling1D()(layers.LayerNormalization(epsilon=1e-6)(x))


def _transformer_block(x, heads, activate):
    channels = x.shape[-1]
    y = layers.LayerNormalization(epsilon=1e-6)(x)
    x = layers.add([x, layers.MultiHeadAttention(heads, channels // heads)(y, y)])
    y = layers.LayerNormalization(epsilon=1e-6)(x)
    y = _dense(activate(_dense(y, 2 * channels)), channels)
    return layers.add([x, y])


def _convolution(x, channels, size, strides=1, padding="same", use_bias=True):
    return layers.Conv2D(
        channels, size, strides=strides, padding=padding, use_bias=use_bias, kernel_initializer="he_normal"
    )(x)


def _dense(x, units, name=None):
    return layers.Dense(units, kernel_initializer="he_normal", name=name)(x)


def _normalize(x):
    # PyTorch's default momentum in Keras's terms: with 0.99 the statistics lag behind on short runs.
    return keras.layers.BatchNormalization(momentum=0.9)(x)
