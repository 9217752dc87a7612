/* A resolver with files, images and models in memory, for the coordinator's tests. */
#ifndef VIDLOOM_TESTS_COORDINATOR_FAKE_H
#define VIDLOOM_TESTS_COORDINATOR_FAKE_H

#include "coordinator/job.h"

struct fake_file {
    const char *name, *text;
};
struct fake {
    struct fake_file files[4]; /* prompt lists */
};

/* Models: "pocket", "pocket2" (the same with another hash), "t2v" (no windows), "i2v" (no
 * keyframe), "single" (no overlap), "wan" (larger). Images: any name that ends with .png but
 * missing.png. */
struct job_resolver fake_resolver(struct fake *fake);
/* "pocket", which the other models are like, with the hash of another name. */
struct model_facts fake_pocket(const char *spec);
/* Parses or fails the test. */
struct job *fake_job(const char *yaml);
/* Fails the test where the two differ. */
void expect_sampling(const struct job_sampling *is, const struct job_sampling *expected);

#endif
