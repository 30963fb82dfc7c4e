"""Between a method and what it must not know: every step is a process of its own, which is given images and a state.

`nursery` forks these processes, `confinement` closes the machine to them, `child` is all that runs in them, `parent`
talks to them; `protocol` is what passes in between, `state` how a method's state becomes bytes.
"""
