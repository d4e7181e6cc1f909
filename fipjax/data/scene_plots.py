"""Plots of films with genres: text says nearly all of it, and a poster next to nothing."""
from __future__ import annotations

import random

GENRES = ('action', 'comedy', 'drama', 'family', 'horror', 'mystery', 'romance', 'western')
# Two colours that posters of a genre prefer, and the share of objects that follow.
COLOURS = {'action': ('orange', 'red'), 'comedy': ('yellow', 'pink'), 'drama': ('blue', 'brown'),
           'family': ('green', 'yellow'), 'horror': ('red', 'purple'), 'mystery': ('purple', 'blue'),
           'romance': ('pink', 'red'), 'western': ('brown', 'orange')}
PREFERENCE = 0.3
OFF_TOPIC = 0.15  # share of sentences that fit no genre or another one
NAMES = ('Alice', 'Bruno', 'Carla', 'Dexter', 'Edith', 'Frank', 'Greta', 'Hugo', 'Ida', 'Jonas', 'Kate', 'Leo', 'Mara',
         'Nick', 'Olga', 'Paul')
PLACES = ('Paris', 'the harbour', 'a small town', 'the capital', 'the old mill', 'the valley', 'the north', 'a village')
ROLES = ('teacher', 'doctor', 'farmer', 'pilot', 'student', 'nurse', 'painter', 'cook', 'driver', 'widow')
TIMES = ('one night', 'after the war', 'years later', 'that summer', 'in the end', 'at once')
GENERAL = ('{name} is a {role} in {place}.', '{name} and {other} meet again {time}.',
           '{time} {name} returns to {place}.', 'A {role} called {name} arrives in {place}.',
           '{name} has to choose between {other} and {place}.', 'Nothing is the same for {name} {time}.')
PLOTS = {
    'action': ('{name} has one hour to stop the bomb in {place}.',
               'A gang of mercenaries hunts {name} through {place}.', '{name} chases the stolen truck across {place}.',
               'Explosions shake {place} as {name} fights the terrorists.',
               'The retired soldier {name} is forced into one more mission.',
               '{name} must rescue {other} from armed men.',
               'A car chase ends with {name} on the roof of a burning train.', 'The agents fire and {name} jumps.'),
    'comedy': ('{name} pretends to be a {role} and everything goes hilariously wrong.',
               '{name} loses a silly bet with {other}.', 'A clumsy {role} ruins the party of {other}.',
               '{name} swaps suitcases with {other} by accident.', 'The prank of {name} gets out of hand in {place}.',
               '{name} has to hide a goat from the boss.', 'The worst band in {place} wins a contest by mistake.',
               'Everybody laughs about the fake moustache of {name}.'),
    'drama': ('{name} struggles with grief after the death of {other}.',
              'A {role} in {place} fights for custody of a child.', 'The illness of {name} tears the household apart.',
              '{name} leaves prison and tries to forgive {other}.', 'Poverty forces {name} to give up a dream.',
              'An old quarrel between {name} and {other} opens wounds.',
              'The trial divides {place} and {name} stays silent.', '{name} drinks to forget the accident.'),
    'family': ('{name} and a talking dog look for a lost toy.', 'The children of {place} build a flying boat.',
               'A lonely puppy finds a home with {name}.', '{name} learns magic from a kind old wizard.',
               'The little bear and {name} save the birthday.',
               'Brother and sister discover a friendly dragon in {place}.',
               'A penguin from the zoo follows {name} to school.',
               'Grandmother tells {name} about the fairy of {place}.'),
    'horror': ('Something in the cellar whispers the name of {other}.', 'A masked killer stalks {name} in {place}.',
               '{name} wakes a demon beneath {place}.', 'One by one the guests are found dead and drained of blood.',
               'The cursed doll of {name} begins to move.', 'Screams come from the abandoned asylum near {place}.',
               'The undead rise from the graves of {place}.', '{name} sees a ghost in every mirror.'),
    'mystery': ('Inspector {name} investigates a strange murder in {place}.',
                'A coded letter leads {name} to a vanished {role}.', 'Every witness tells the detective another story.',
                '{name} finds a clue in the pocket of {other}.', 'The painting is missing and all doors were locked.',
                'Who poisoned the {role} of {place}?', '{name} suspects that {other} has an alibi too good to be true.',
                'The case is reopened and the evidence is gone.'),
    'romance': ('{name} falls in love with {other} in {place}.', 'A {role} writes love letters to {other}.',
                '{name} is engaged but cannot forget the kiss of {other}.', 'The wedding of {name} is called off.',
                'Two lonely hearts meet on a train to {place}.', '{other} proposes and {name} runs away.',
                'They dance until dawn and {name} knows that it is love.',
                'Separated lovers find each other in {place}.'),
    'western': ('The sheriff of {place} faces the outlaws alone.',
                '{name} rides into {place} with a price on the head.',
                'A cowboy called {name} guards the cattle from rustlers.',
                'The stagecoach is robbed and {name} takes the gold.', '{name} and {other} meet for a duel at noon.',
                'Ranchers fight over the water near {place}.', 'A bounty hunter follows {name} through the desert.',
                'The saloon of {place} goes up in flames.'),
}


def genres(rng: random.Random) -> tuple[str, ...]:
    """One (0.5), two (0.4) or three genres of a film."""
    return tuple(sorted(rng.sample(GENRES, rng.choices((1, 2, 3), (5, 4, 1))[0])))


def plot(of: tuple[str, ...], rng: random.Random) -> str:
    """Two to four sentences; each genre of the film has one of them at least unless it is off the topic."""
    topics = list(of) + [rng.choice(of) for _ in range(rng.randint(max(0, 2 - len(of)), 4 - len(of)))]
    rng.shuffle(topics)
    said = []
    for topic in topics:
        table = PLOTS[topic]
        if rng.random() < OFF_TOPIC:
            table = GENERAL if rng.random() < 0.6 else PLOTS[rng.choice(GENRES)]
        said.append(rng.choice([t for t in table if t not in said]))
    return ' '.join(_tell(template, rng) for template in said)


def _tell(template, rng):
    name, other = rng.sample(NAMES, 2)
    text = template.format(name=name, other=other, place=rng.choice(PLACES), role=rng.choice(ROLES),
                           time=rng.choice(TIMES))
    return text[0].upper() + text[1:]
