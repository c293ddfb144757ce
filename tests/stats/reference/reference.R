# Reference values from R for tests/stats/test_reference.py. Debian: apt-get install r-base-core r-cran-multcomp r-cran-lme4
# Run in this folder: Rscript reference.R
suppressMessages({library(multcomp); library(mvtnorm); library(lme4)})
out <- file("reference_R.csv", "w")
cat("#", R.version.string, "\n", file = out)
for (p in c("multcomp", "mvtnorm", "lme4")) cat("#", p, as.character(packageVersion(p)), "\n", file = out)
cat("#", format(Sys.Date()), "\nquantity,case,item,value\n", file = out)
put <- function(quantity, case, item, value)
  cat(paste(quantity, case, item, sprintf("%.12g", value), sep = ",", collapse = "\n"), "\n", file = out, sep = "")
set.seed(1)

# Dunnett: the seed-blocked model, its contrasts, and the multivariate t
blocks <- read.csv("blocks.csv"); blocks$arm <- factor(blocks$arm); blocks$seed <- factor(blocks$seed)
for (layout in c("complete", "incomplete")) {
  fit <- lm(value ~ arm + seed, blocks[blocks$layout == layout, ])
  s <- summary(fit)$coefficients[2:4, ]
  put("effect", layout, 1:3, s[, 1]); put("error", layout, 1:3, s[, 2])
  put("df", layout, 0, fit$df.residual); put("sd", layout, 0, summary(fit)$sigma)
  v <- vcov(fit)[2:4, 2:4]
  put("correlation", layout, c(12, 13, 23), cov2cor(v)[c(4, 7, 8)])
  g <- glht(fit, linfct = mcp(arm = "Dunnett"))
  a <- GenzBretz(maxpts = 2e5, abseps = 1e-5)
  put("dunnett_p", layout, 1:3, summary(g, test = adjusted("single-step", maxpts = 2e5, abseps = 1e-5))$test$pvalues)
  ci <- confint(g, calpha = qmvt(.95, corr = cov2cor(v), df = fit$df.residual, tail = "both.tails", algorithm = a)$quantile)$confint
  put("dunnett_low", layout, 1:3, ci[, 2]); put("dunnett_high", layout, 1:3, ci[, 3])
}
# The multivariate t itself, deterministic: one baseline's error and one residual sd, integrated by R's own quadrature
inside <- function(q, k, df, rho) integrate(function(s) sapply(s, function(one) {
  f <- function(z) (pnorm((q * one - sqrt(rho) * z) / sqrt(1 - rho)) - pnorm((-q * one - sqrt(rho) * z) / sqrt(1 - rho)))^k * dnorm(z)
  integrate(f, -9, 9, rel.tol = 1e-11, subdivisions = 400)$value * 2 * one * df * dchisq(one^2 * df, df)
}), 0, sqrt(qchisq(1e-14, df, lower.tail = FALSE) / df), rel.tol = 1e-10, subdivisions = 400)$value
for (k in c(2, 5, 8)) for (df in c(4, 10, 20, 60)) {
  q <- uniroot(function(q) inside(q, k, df, .5) - .95, c(1.5, 8), tol = 1e-10)$root
  put("dunnett_value", paste(k, df, sep = "_"), 0, q)
}
for (rho in c(.3, .7)) put("dunnett_tail", paste(4, 12, rho, sep = "_"), 0, 1 - inside(3, 4, 12, rho))

# The F-guard: an arm's mean-shift outlier test, from the two nested models
whole <- blocks[blocks$layout == "complete", ]
for (a in 0:3) {
  full <- lm(value ~ arm + seed, whole); rest <- lm(value ~ arm + seed, droplevels(whole[whole$arm != a, ]))
  added <- full$df.residual - rest$df.residual
  put("variance_ratio", "complete", a, ((deviance(full) - deviance(rest)) / added) / (deviance(rest) / rest$df.residual))
}

# Several p-values, signs, equivalence, effect size
p <- c(.04, .001, .02, .3, .011)
put("holm", "five", 1:5, p.adjust(p, "holm"))
wide <- matrix(whole$value, nrow = 4, byrow = TRUE)
for (a in 2:4) {
  d <- wide[a, ] - wide[1, ]
  signs <- as.matrix(expand.grid(rep(list(c(-1, 1)), length(d))))
  put("signflip", "complete", a - 1, mean(abs(signs %*% d) >= abs(sum(d)) - 1e-12))
  lower <- t.test(d, mu = -.12, alternative = "greater")$p.value; upper <- t.test(d, mu = .12, alternative = "less")$p.value
  put("tost", "margin_0.12", a - 1, max(lower, upper))
  put("paired_p", "complete", a - 1, t.test(d)$p.value)
  J <- function(df) gamma(df / 2) / (sqrt(df / 2) * gamma((df - 1) / 2))
  n <- length(d)
  put("hedges_g", "pooled", a - 1, mean(d) / sqrt((var(wide[a, ]) + var(wide[1, ])) / 2) * J(2 * n - 2))
}

# Counts
for (bc in list(c(2, 9), c(5, 5), c(0, 6), c(30, 14))) {
  put("mcnemar", paste(bc, collapse = "_"), 0, binom.test(bc[1], sum(bc))$p.value)
}
for (t in list(c(0, 5, 5), c(1, 4, 5), c(0, 3, 3), c(2, 7, 10))) {
  m <- matrix(c(t[1], t[3] - t[1], t[2], t[3] - t[2]), 2)
  put("fisher", paste(t, collapse = "_"), 0, fisher.test(m)$p.value)
}
for (t in list(c(0, 5), c(1, 5), c(5, 5), c(3, 10))) {
  put("rate", paste(t, collapse = "_"), 1:2, binom.test(t[1], t[2])$conf.int)
}

# Factorial: two levels in -1/2, 1/2 coding; three levels by treatment contrasts of cell means
runs <- read.csv("factorial.csv"); two <- runs[runs$design == "two", ]
for (f in c("a", "b", "c")) two[[f]] <- two[[f]] - .5
two$seed <- factor(two$seed)
s <- summary(lm(value ~ seed + a + b + c + I(2 * a * b) + I(2 * a * c) + I(2 * b * c), two))
put("factorial_effect", "two", 1:6, s$coefficients[4:9, 1]); put("factorial_error", "two", 1:6, s$coefficients[4:9, 2])
put("factorial_df", "two", 0, s$df[2])
three <- runs[runs$design == "three", ]; for (f in c("a", "b", "seed")) three[[f]] <- factor(three[[f]])
put("factorial_f", "three", 1:3, anova(lm(value ~ seed + a * b, three))[2:4, "F value"])
m <- tapply(three$value, list(three$a, three$b), mean)
put("factorial_effect", "three", 1:5, c(rowMeans(m)[2:3] - rowMeans(m)[1], mean(m[, 2] - m[, 1]), (m[2:3, 2] - m[2:3, 1]) - (m[1, 2] - m[1, 1])))

# Two crossed random effects, restricted maximum likelihood (equal to the mean squares of a balanced layout)
crossed <- read.csv("crossed.csv")
fit <- lmer(value ~ 1 + (1 | row) + (1 | column), crossed, control = lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-10)))
v <- as.data.frame(VarCorr(fit))
put("component", c("column", "row", "rest"), 0, v$vcov); put("crossed_mean", "crossed", 0, fixef(fit)); put("crossed_error", "crossed", 0, sqrt(vcov(fit)[1, 1]))

# Alpha spending: boundaries of five equal looks, from the multivariate normal (Miwa: deterministic)
times <- (1:5) / 5; corr <- outer(times, times, function(a, b) sqrt(pmin(a, b) / pmax(a, b)))
for (kind in c("obrien_fleming", "pocock")) {
  spent <- if (kind == "pocock") .05 * log(1 + (exp(1) - 1) * times) else 4 * pnorm(qnorm(.05 / 4, lower.tail = FALSE) / sqrt(times), lower.tail = FALSE)
  z <- qnorm(spent[1] / 2, lower.tail = FALSE)
  for (k in 2:5) {
    miss <- function(q) 1 - pmvnorm(-c(z, q), c(z, q), corr = corr[1:k, 1:k], algorithm = Miwa(steps = 128)) - spent[k]
    z <- c(z, uniroot(function(q) as.numeric(miss(q)), c(1.5, 6), tol = 1e-9)$root)
  }
  put("boundary", kind, 1:5, z)
}
close(out)
