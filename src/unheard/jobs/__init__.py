"""Jobs beyond one process: a plan of numbered tasks, one part for each task, and a join.

    items -> plan: task 1 ... task N -> workers: one task -> one part and its outcome -> join, in the order of the plan

Local processes, Ray and the tasks of a SLURM array call one function, `unheard.jobs.session.Session.do`. A task whose
outcome is stored is done, so a job is resumed by its parts. This package does not depend on what a task computes.
"""
