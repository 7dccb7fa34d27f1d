"""The twenty characters of toyfaces and their numbers of images."""

import dataclasses

Color = tuple[int, int, int]

# Characters share hair colours, so that colour alone does not identify them.
BLONDE: Color = (243, 208, 112)
BLACK: Color = (62, 58, 84)
PINK: Color = (246, 152, 182)
BLUE: Color = (96, 156, 226)
BROWN: Color = (146, 92, 62)
SILVER: Color = (206, 208, 224)

PALE: Color = (255, 232, 220)
FAIR: Color = (253, 219, 196)
TAN: Color = (226, 174, 136)

RED: Color = (214, 48, 62)
GREEN: Color = (58, 168, 92)
AQUA: Color = (52, 176, 196)
SKY: Color = (58, 122, 222)
VIOLET: Color = (138, 80, 200)
GOLD: Color = (236, 172, 40)
ROSE: Color = (232, 92, 140)
CREAM: Color = (250, 240, 220)
INK: Color = (52, 46, 60)


@dataclasses.dataclass(frozen=True)
class Character:
    """The fixed features of a character; colours are 8-bit RGB."""

    name: str
    hair: Color
    style: str  # key of hair.STYLES
    bangs: str  # key of hair.BANGS
    eyes: Color
    eye_tilt: float  # outer corner up (negative: sharp) or down (positive: gentle), in face units
    skin: Color
    accessories: tuple[tuple[str, Color], ...] = ()  # (key of accessories.BEHIND_BANGS or IN_FRONT_OF_BANGS, colour)


CHARACTERS: tuple[Character, ...] = (
    Character("sorane", BLONDE, "twin_tails", "split", SKY, -0.05, PALE, (("ribbons", RED),)),
    Character("kurosei", BLACK, "long", "straight", RED, -0.06, PALE, (("hairpin", GOLD),)),
    Character("mochiko", PINK, "buns", "round", GREEN, 0.05, FAIR, (("choker", GREEN),)),
    Character("umirin", BLUE, "curly", "swept", GOLD, 0.04, FAIR, (("headphones", INK),)),
    Character("yuzuka", BROWN, "braids", "straight", GREEN, 0.05, FAIR, (("beret", RED),)),
    Character("nekoyu", SILVER, "bob", "split", AQUA, -0.04, PALE, (("cat_ears", SILVER),)),
    Character("botaru", BLACK, "spiky", "jagged", GOLD, -0.08, TAN, (("eyepatch", INK),)),
    Character("lumika", BLONDE, "long", "round", VIOLET, 0.04, PALE, (("halo", GOLD),)),
    Character("amiwa", PINK, "long", "swept", SKY, 0.02, PALE, (("flower", CREAM),)),
    Character("tsubane", BLACK, "ponytail", "swept", SKY, 0.0, FAIR, (("glasses", RED), ("bow", SKY))),
    Character("kohari", BROWN, "spiky", "jagged", SKY, -0.03, FAIR, (("headband", SKY),)),
    Character("fuyunoa", SILVER, "twin_tails", "straight", ROSE, 0.0, PALE, (("ribbons", INK),)),
    Character("rinkao", BLONDE, "drills", "split", GREEN, -0.06, PALE, (("tiara", ROSE),)),
    Character("pukara", BLUE, "bob", "straight", VIOLET, 0.06, PALE, (("flower", ROSE),)),
    Character("haruppo", BROWN, "ponytail", "split", GOLD, 0.03, TAN, (("bow", GOLD),)),
    Character("shizumo", BLACK, "bob", "round", VIOLET, 0.03, PALE, (("glasses", INK), ("beret", VIOLET))),
    Character("ringomi", PINK, "twin_tails", "jagged", GOLD, -0.06, TAN, (("horns", RED),)),
    Character("kazemo", BLONDE, "spiky", "swept", AQUA, -0.03, TAN, (("headphones", RED),)),
    Character("toremi", BLUE, "long", "jagged", ROSE, -0.05, FAIR, (("horns", CREAM),)),
    Character("hoshiru", SILVER, "braids", "round", RED, 0.02, FAIR, (("hairpin", SKY),)),
)

# Long-tailed like DAF:re: the first character has fourteen times the images of the last.
IMAGES_PER_CHARACTER: tuple[int, ...] = tuple(round(280 * 0.87**rank) for rank in range(len(CHARACTERS)))
