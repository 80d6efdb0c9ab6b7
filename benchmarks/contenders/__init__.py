"""The codecs of the benchmarks, one class each.

To add a contender, put one module here with a subclass of `benchmarks.contenders.base.Contender`:
`benchmarks.contenders.registry.contenders` finds it, and every benchmark offers it by its name.
"""
