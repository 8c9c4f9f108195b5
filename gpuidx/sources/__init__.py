# SPDX-License-Identifier: GPL-3.0-or-later
"""Where messages come from; `opening` has what a run or command calls first.

Nothing is imported here: a program that asks a service one question shall start at once
(`gpuidx.sources.asapo.answer`).
"""
